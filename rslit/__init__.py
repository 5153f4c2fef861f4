"""Rewarded Soups on PyTorch Lightning (Ramé et al., NeurIPS 2023, arXiv:2306.04488)."""

__version__ = "0.1.0"
