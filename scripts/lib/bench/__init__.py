"""What scripts/bench runs. A case is a function in cases.py; systems that are measured are in larder.py and peers.py."""
