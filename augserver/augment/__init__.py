"""Recipes checked, and samples drawn from them: parameters only, no voxel."""

from augserver.augment.draws import Foreground, draw_sample
from augserver.augment.foreground import count_planes
from augserver.augment.recipe import compile_recipe
from augserver.augment.rules import CompiledRecipe
from augserver.augment.sample import SampleParams

__all__ = ["CompiledRecipe", "Foreground", "SampleParams", "compile_recipe", "count_planes", "draw_sample"]
