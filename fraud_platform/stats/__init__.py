"""Decisions with a stated error rate: pure functions of counts and scores, no policy of acting.

Each says what it may get wrong, how often, and under which assumption. Intervals of a proportion
are `proportions`, McNemar's exact test and Holm's procedure are `paired`.
"""
