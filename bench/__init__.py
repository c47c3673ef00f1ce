"""The benchmark: what beam costs beside a minimal twisted.web relay, measured on one machine in one run.

Nothing here is installed with beam. ``python -m bench`` measures, ``bench.baseline`` is the relay that beam is compared
with, ``bench.load`` are the clients, ``bench.servers`` starts and watches both servers.
"""
