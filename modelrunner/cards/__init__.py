"""Model cards: Markdown made into facts, and the catalog of them."""
