"""WHEN things run: jobs, clocks and sensors.

Evidence -> pure decision (`fraud_platform.healing`) -> run request, or a reason why not. Run keys
name the cause, so the same cause never starts two runs.
"""
