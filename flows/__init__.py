"""The dataflows: embed, cluster, score, summarize, store. They only wire: decisions live in models, I/O elsewhere."""
