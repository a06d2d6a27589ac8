"""Webhooks: a team's addresses that are told what becomes of its jobs (docs/webhooks.md).

What is to be told is written by a trigger in the transaction that makes it true (migration 0019); `hooks` is what a
team does with its webhooks, `turns` what whoever delivers does, `signing` how a receiver knows us, `targets` which
addresses there may be at all. The calls themselves are the API's (api.webhooks.deliverer).
"""
