"""The `doctor` command: is everything that a process needs as it should be, and what to do where it is not."""

from unwind.cli.doctor.command import Participants, doctor, examine_and_tell

__all__ = ["Participants", "doctor", "examine_and_tell"]
