"""The one place where metrics are born: each with its kind, its labels, and a sentence on what it means."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 50_000)

ITEMS = Counter(
    "trends_items_total", "Records that a stage has finished with, by outcome (ok, dead_letter).", ["stage", "outcome"]
)
BATCH_RECORDS = Histogram("trends_batch_records", "Records in one batch of a stage.", ["stage"], buckets=_SIZES)
STAGE_SECONDS = Histogram(
    "trends_stage_seconds", "Seconds that a stage spent on one batch.", ["stage"], buckets=_SECONDS
)
EPOCH_SECONDS = Histogram(
    "trends_epoch_seconds", "Seconds from the first record of a transaction to its commit.", ["flow"], buckets=_SECONDS
)
TRANSACTION_SECONDS = Histogram(
    "trends_transaction_seconds", "Seconds from begin to commit of a Kafka transaction.", ["flow"], buckets=_SECONDS
)
TRANSACTION_RECORDS = Histogram(
    "trends_transaction_records", "Records written by one Kafka transaction.", ["flow"], buckets=_SIZES
)
LAG_RECORDS = Gauge(
    "trends_lag_records", "Offsets between what a flow has committed and the end of its inputs.", ["flow", "stream"]
)
FORWARDED = Counter(
    "trends_forwarded_records_total", "Records found in another partition than their trend's, sent on to it.", ["flow"]
)
HELD_PARTITIONS = Gauge(
    "trends_held_partitions", "New partitions held back until the older records of their trends are done.", ["flow"]
)
DEAD_LETTERS = Counter("trends_dead_letters_total", "Records that went to dead letters.", ["flow", "reason"])
ACTIVE_TOPICS = Gauge("trends_active_topics", "Topics that a new item may still join.")
INDEXED_ITEMS = Gauge("trends_indexed_items", "Items within the horizon that repeats and echoes are found among.")
MERGED_TOPICS = Counter("trends_merged_topics_total", "Topics that were merged into another.")
ACTIVE_TRENDS = Gauge("trends_active_trends", "Trends that score holds a past for.")
CACHE_HITS = Counter("trends_cache_total", "Look-ups in a bounded cache, by result (hit, miss).", ["cache", "result"])
SUMMARY_FALLBACKS = Counter(
    "trends_summary_fallbacks_total", "Summaries that a model was to write and that are extractive, by why.", ["why"]
)
SUMMARY_TOKENS = Counter("trends_summary_tokens_total", "Tokens that requests for summaries took, prompts included.")
EMBEDDING_TOKENS = Counter("trends_embedding_tokens_total", "Tokens that requests for embeddings took.")
EMBEDDING_WAITS = Gauge(
    "trends_embedding_budget_spent", "1 while items wait for the next day, as the tokens for embeddings are spent."
)
SUMMARIES_OWED = Gauge("trends_summaries_owed", "Topics whose summary by a model is to be tried again.")
QUEUE_RECORDS = Gauge("trends_queue_records", "Records held in a bounded queue.", ["queue"])
QUEUE_BOUND = Gauge("trends_queue_bound_records", "The bound of that queue.", ["queue"])
GAP_OFFSETS = Counter(
    "trends_gap_offsets_total", "Offsets that were gone unread and skipped by an operator's word.", ["flow", "stream"]
)
THROTTLE_RATE = Gauge(
    "trends_throttle_records_per_second",
    "Records a second that work which yields to live traffic may read; +Inf: as many as it can.",
    ["work"],
)
STATE_RECORDS = Gauge("trends_state_records", "State records read back at start.", ["flow"])
STATE_SECONDS = Gauge("trends_state_seconds", "Seconds that reading the state back took.", ["flow"])
SOURCE_REQUESTS = Counter(
    "trends_source_requests_total", "Requests of a connector, by result (ok, not_modified, limited, error, timeout).",
    ["source", "result"],
)  # fmt: skip
SOURCE_ITEMS = Counter("trends_source_items_total", "Observations that a connector has delivered.", ["source"])
SOURCE_BAD_ROWS = Counter(
    "trends_source_bad_rows_total", "Rows or entries that a connector could not read.", ["source"]
)
STORE_ROWS = Counter("trends_store_rows_total", "Rows that the store has written, by table.", ["table", "shard"])
STORE_SECONDS = Histogram("trends_store_seconds", "Seconds of one batch on one shard.", ["shard"], buckets=_SECONDS)
STORE_WAITING = Gauge(
    "trends_store_waiting_seconds", "Seconds for which the store has been trying to reach a shard; 0 when it answers.",
    ["shard"],
)  # fmt: skip
FORGOTTEN = Counter(
    "trends_forgotten_total", "Records that were dropped or cut because their item or author is to be forgotten.",
    ["stage"],
)  # fmt: skip
CONTROL_REFUSED = Counter(
    "trends_control_refused_total", "Records of a control stream that were passed over because they cannot be taken.",
    ["stream"],
)  # fmt: skip
DB_CONNECTIONS = Gauge("db_connections_active", "Open connections to a database.", ["database"])
DB_QUERY_SECONDS = Histogram("db_query_duration_seconds", "Seconds of a read query.", ["query_type"], buckets=_SECONDS)
PROCESS_RESTARTS = Counter(
    "trends_process_restarts_total",
    "Processes started again by a supervisor, by why (ended, hung).",
    ["process", "why"],
)
