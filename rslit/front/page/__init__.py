"""`front.html`: the numbers of `front.json` as one page for a person, which needs no network."""

from rslit.front.page.page import front_page

__all__ = ["front_page"]
