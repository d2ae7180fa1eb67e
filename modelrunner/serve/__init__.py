"""An OpenAI-compatible gateway before runtimes that are started when somebody asks for them."""
