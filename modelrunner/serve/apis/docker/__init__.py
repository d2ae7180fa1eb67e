"""Docker Model Runner's API beside OpenAI's: models, the store, and what is in memory."""
