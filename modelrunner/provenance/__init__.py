"""Who signed a model, and what in it deserves a look: signatures, attestations, templates."""
