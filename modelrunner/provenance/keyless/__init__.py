"""Signatures without a key: by a short-lived certificate for an identity.

The certificate says who has signed, by the word of an identity provider; a timestamp or a
transparency log says when. `sigstore` verifies what is in a log; what it does not verify, and all
that signs, is here.
"""
