"""The student: behavioural cloning, and the small policy that results."""
