"""The intelligence: text, routing, embedding, clustering, scoring, summaries. Pure: no I/O apart from model calls.

May import `streams` (its records and metrics); knows nothing of Kafka, stores or flows.
"""
