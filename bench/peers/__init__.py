"""The stack that this design replaces: FastAPI, Redis pub/sub and Celery, written as its own users would.

    client ── POST /commits ──► app.py (FastAPI, uvicorn): rows into SQLite in one transaction
                                  ├─ PUBLISH on Redis ──► dashboards.py: WebSockets
                                  └─ Celery task for each fact, Redis as the broker
                                        └─ tasks.py (worker): cache keys deleted, the fact's actions run

The rows are written by our own projection into our own tables with our own journal settings, the cache keys and the
actions are those of our own event table: what differs is the way between. Sequences are counted by the app.
"""
