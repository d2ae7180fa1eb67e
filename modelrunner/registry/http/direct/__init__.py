"""HTTP/1.1 straight to a server: a request, the head of its answer, and its body as it comes.

A pull of thousands of small blobs is as many requests, and one of a large blob waits for three of
them; a general library takes most of a millisecond for each, and as long to load as the bare
interpreter. What goes through a proxy goes by urllib3.
"""
