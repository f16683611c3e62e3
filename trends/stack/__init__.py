"""The local stack: Apache Kafka and PostgreSQL shards in one data folder, for one machine.

`stack.py` brings it up and down, `kafka.py` and `postgres.py` know one server each, `processes.py` what they share.
Production runs none of this: there the settings name an outside broker and database.
"""

from trends.stack.stack import MAX_SHARDS, Stack, StackState, StackStatus

__all__ = ["MAX_SHARDS", "Stack", "StackState", "StackStatus"]
