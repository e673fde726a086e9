"""From a dataset and a model's name to a whole config: what ``lucidet train --data`` chooses."""

from lucidet.engine.recipe.facts import DataFacts, read_facts
from lucidet.engine.recipe.plan import Plan, Request
from lucidet.engine.recipe.recipe import plan_training

__all__ = ["DataFacts", "Plan", "Request", "plan_training", "read_facts"]
