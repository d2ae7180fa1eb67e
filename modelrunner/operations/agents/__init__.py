"""`launch`: the choice of a model for an app, the server beside it, the app itself."""
