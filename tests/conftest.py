"""What holds for every test: examples may take as long as a busy machine takes."""

from hypothesis import HealthCheck, settings

settings.register_profile("beam", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("beam")
