"""The benchmark: what beam costs beside other servers, measured on one machine in one run.

Nothing here is installed with beam. ``python -m bench`` measures beside ``bench.baseline``, a minimal relay;
``python -m bench.field`` beside the relays of ``bench.peers`` too, and writes the tables of the documentation.
``bench.load`` and ``bench.many`` are the clients, ``bench.servers`` starts and watches the servers.
"""
