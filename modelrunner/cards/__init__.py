"""Model cards: Markdown made into facts, and the catalogue of them."""
