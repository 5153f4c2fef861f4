"""Ingredients and soups: experts' weights on disk, and what lies between them."""

from rslit.soup.base import base_fingerprint
from rslit.soup.export import export_soup
from rslit.soup.fisher import fisher_mean, load_fisher
from rslit.soup.greedy import GreedySoup, greedy_soup
from rslit.soup.info import IngredientInfo
from rslit.soup.ingredient import Ingredient, dtype_name, fingerprint, write_ingredient
from rslit.soup.lam import Lam, format_lam, parse_lam
from rslit.soup.lattice import lattice
from rslit.soup.lora import LoraStack
from rslit.soup.peft_folder import adapter_files
from rslit.soup.poured import is_poured
from rslit.soup.rounding import PourReport
from rslit.soup.soup import Soup
from rslit.soup.stacked import StackedSoup

__all__ = [
    "GreedySoup",
    "Ingredient",
    "IngredientInfo",
    "Lam",
    "LoraStack",
    "PourReport",
    "Soup",
    "StackedSoup",
    "adapter_files",
    "base_fingerprint",
    "dtype_name",
    "export_soup",
    "fingerprint",
    "fisher_mean",
    "format_lam",
    "greedy_soup",
    "is_poured",
    "lattice",
    "load_fisher",
    "parse_lam",
    "write_ingredient",
]
