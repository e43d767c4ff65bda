import dataclasses
import math

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvnet.errors import RecipeError
from deconvnet.recipe import Recipe, setting_docs, setting_types

RECIPES = st.builds(
    Recipe,
    model=st.sampled_from(["unet", "deconvnet"]),
    width=st.floats(0.01, 4),
    fc_channels=st.none() | st.integers(1, 4096),
    scale_range=st.tuples(st.floats(0.1, 1), st.floats(1, 3)),
    class_weights=st.sampled_from(["none", "median", "root_median"]),
    learning_rate=st.floats(1e-12, 1),
    clip=st.none() | st.floats(0.1, 10),
    tensorboard=st.booleans(),
)


@settings(deadline=None, max_examples=50)
@given(RECIPES)
def test_a_recipe_survives_yaml(recipe):
    assert Recipe.from_mapping(yaml.safe_load(recipe.to_yaml())) == recipe


def test_every_setting_has_a_help_text_and_a_type():
    names = {field.name for field in dataclasses.fields(Recipe)}
    assert set(setting_docs()) == names == set(setting_types())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"learning_rte": 0.1},
            "There is no setting 'learning_rte'. Did you mean 'learning_rate'?",
        ),
        (
            {"zzz": 1},
            "There is no setting 'zzz'. `deconvnet train --help` lists them all.",
        ),
        ({"width": "wide"}, "width is 'wide'; it must be a number."),
        ({"steps": 0}, "steps is 0; it must be at least 1."),
        ({"steps": 1.5}, "steps is 1.5; it must be a whole number."),
        ({"optimizer": "adam"}, "optimizer is 'adam'; it must be one of sgd, adamw."),
        ({"flip": 2}, "flip is 2.0; it must lie in 0 to 1."),
        ({"learning_rate": math.nan}, "learning_rate is nan; it must be above 0."),
        (
            {"scale_range": [1, 2, 3]},
            "scale_range is (1.0, 2.0, 3.0); it must be two numbers such as 0.6,1.6.",
        ),
        (
            {"scale_range": "2,1"},
            "scale_range is 2.0, 1.0; give two factors above 0, the smaller first.",
        ),
        ({"tensorboard": 1}, "tensorboard is 1; it must be true or false."),
        (
            {"fc_channels": "many"},
            "fc_channels is 'many'; it must be a whole number or none.",
        ),
    ],
)
def test_a_wrong_setting_is_refused_in_one_sentence(settings, message):
    with pytest.raises(RecipeError) as error:
        Recipe.from_mapping(settings)
    assert str(error.value) == message


def test_settings_from_the_command_line_are_text_and_become_their_type():
    recipe = Recipe.from_mapping(
        {
            "learning-rate": "1e-3",
            "fc_channels": "none",
            "steps": "7",
            "scale_range": "0.5,2",
            "tensorboard": "true",
            "class_weights": "none",
            "model": "unet",
        }
    )
    assert recipe.learning_rate == 0.001
    assert recipe.fc_channels is None
    assert recipe.steps == 7
    assert recipe.scale_range == (0.5, 2.0)
    assert recipe.tensorboard is True
    assert recipe.class_weights == "none"


@pytest.mark.parametrize(
    ("content", "ending"),
    [
        (None, "give a YAML file, such as one of recipes/."),
        ("- a\n- b\n", "holds no settings; write lines such as `model: unet`."),
        ("?", "There is no setting 'None'."),
        ("1: 2", "There is no setting '1'."),
        ("a: [1\n", "is not valid YAML"),
        ("widht: 1\n", "There is no setting 'widht'. Did you mean 'width'?"),
        ("width: 2020-13-45T\n", "width is '2020-13-45T'; it must be a number."),
        ("width: 2020-13-45\n", "is not valid YAML: month must be in 1..12."),
    ],
)
def test_a_wrong_recipe_file_is_refused_with_its_name(tmp_path, content, ending):
    path = tmp_path / "my.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(RecipeError) as error:
        Recipe.from_file(path)
    assert str(path) in str(error.value)
    assert ending in str(error.value)
    assert "\n" not in str(error.value)
