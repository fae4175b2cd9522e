"""What all tests share: property tests depend on no clock, so that a busy machine fails none of them."""

from hypothesis import HealthCheck, settings

settings.register_profile("tapir", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tapir")
