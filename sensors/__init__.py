"""WHEN things run: jobs, clocks and sensors.

Evidence -> pure decision (`fraud_platform.heal`, `fraud_platform.retraining`) -> run request, or a
reason why not. Run keys
name the cause, so the same cause never starts two runs.
"""
