"""What Streamlit runs, once for everything a visitor does."""

from rslit.demo.server import shown

if __name__ == "__main__":  # not in processes that are spawned while the page is served
    shown()
