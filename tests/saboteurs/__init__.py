"""`make prove`: every requirement's check goes red under a seeded fault of its own, and green again without it.

Checks fall into classes, a module each. A class has a `profile`: a short run of the real check over data, bundles,
proxies and processes that its saboteurs may spoil. They never touch shipped code, the measured value or the limit.
"""
