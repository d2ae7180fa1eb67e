"""OpenAI's Responses, over the chat completions of a runtime.

A request becomes a chat, what the runtime streams becomes the events of a response, and what was
said is kept for the next request. Runtimes have this API in part or not at all.
"""
