"""A self-healing fraud-detection data platform.

The map: the domain is pure (`schemas`, `validation`, `features`, `labels`, `training_set`, `model`,
`evaluation`, `decision`, `drift`, `promotion`, `healing`); `adapters` is the outside world;
`settings` is the one reader of the environment; `definitions` composes the asset graph; `cli` is
the command.
"""
