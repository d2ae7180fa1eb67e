"""Pages for people: what is served and how to ask it, the API key, the chat."""
