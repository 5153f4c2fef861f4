"""Diffusion models as policies: loading, what of them is trained, denoising, drawing images, and files of images."""
