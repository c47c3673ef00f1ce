"""What holds for every test: examples may take as long as a busy machine takes, and are the same in every run.

``pytest --hypothesis-profile=search`` looks where nobody has looked yet.
"""

from hypothesis import HealthCheck, settings

settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("beam", settings.get_profile("search"), derandomize=True)
settings.load_profile("beam")
