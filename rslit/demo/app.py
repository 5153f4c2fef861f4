"""What Streamlit runs, once for everything a visitor does."""

from rslit.demo.server import shown

shown()
