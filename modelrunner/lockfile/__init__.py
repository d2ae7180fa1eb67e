"""What a project needs and what that is just now: `modelrunner.toml` and `modelrunner.lock`.

```
modelrunner.toml   intent, written by people: names, references, what they have to fit into
modelrunner.lock   facts, written by `modelrunner lock`: manifests and blobs by digest
```
Both are checked in. Nothing here talks to a network or knows a store.
"""
