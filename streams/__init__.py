"""The contract of the platform: records, the stream table, keys, and the transactional pair for Bytewax.

The ground floor: everything may import it, it imports no other room.
"""
