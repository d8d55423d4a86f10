"""The templates of infra/aws, each made of the files of one folder."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

STACKS = ("base", "run")
"""In the order in which they are deployed; they are taken down in the opposite one."""
_FOLDER = Path(__file__).parent
NAME_PATTERN = "[a-z][a-z0-9-]{1,19}"
NAME_WORDS = "2 to 20 lower-case letters, digits and hyphens, a letter first"
_NAME = {
    "Type": "String",
    "Default": "moodlake",
    "AllowedPattern": NAME_PATTERN,
    "ConstraintDescription": NAME_WORDS,
    "Description": "What the names of everything begin with",
}


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms: !Sub is Fn::Sub."""


def _long_form(loader: _Loader, name: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
        if name == "GetAtt":
            value = value.split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    return {name if name in ("Ref", "Condition") else f"Fn::{name}": value}


_Loader.add_multi_constructor("!", _long_form)


def template(name: str) -> dict[str, Any]:
    """The template of one folder, such as `base`.

    Raises:
        ValueError: two files define the same.
    """
    whole: dict[str, Any] = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"moodlake: {name}",
        "Parameters": {"Name": _NAME},
    }
    for path in sorted((_FOLDER / name).glob("*.yaml")):
        for section, content in yaml.load(path.read_text("utf-8"), _Loader).items():
            known = whole.setdefault(section, {})
            if twice := known.keys() & content:
                raise ValueError(f"{path.name}: {', '.join(sorted(twice))} is defined twice")
            known |= content
    return whole


def required(whole: Mapping[str, Any]) -> set[str]:
    """The parameters of a template that have no value of their own."""
    return whole["Parameters"].keys() - optional(whole)


def optional(whole: Mapping[str, Any]) -> set[str]:
    """The parameters of a template that have a value of their own."""
    return {name for name, each in whole["Parameters"].items() if "Default" in each}


def refusal(whole: Mapping[str, Any], given: Mapping[str, str]) -> str | None:
    """Why CloudFormation would refuse one of these values, by what its parameter says; or None."""
    for name, value in given.items():
        parameter = whole["Parameters"].get(name, {})
        allowed = parameter.get("AllowedValues")
        pattern = parameter.get("AllowedPattern", ".*")
        if allowed and value not in allowed:
            return f"{name} is {value!r}; it is one of {', '.join(allowed)}"
        if not re.fullmatch(pattern, value):
            return f"{name} is {value!r}; it is {parameter['ConstraintDescription']}"
    return None


def body(name: str, known: Mapping[str, str]) -> str:
    """The template as CloudFormation takes it.

    Buckets that outlive a deployment get their names as words, for CloudFormation takes up again
    only what it knows by a word; nothing else is kept and taken up again.

    Args:
        name: of the template.
        known: values of parameters, and of AWS::AccountId and AWS::Region.
    """
    whole = template(name)
    for resource in whole["Resources"].values():
        if resource["Type"] == "AWS::S3::Bucket" and "DeletionPolicy" in resource:
            properties = resource["Properties"]
            properties["BucketName"] = _in_words(properties["BucketName"], known)
    return json.dumps(whole, separators=(",", ":"))


def _in_words(value: Mapping[str, str], known: Mapping[str, str]) -> str:
    """What Ref or Fn::Sub stands for."""
    ((function, text),) = value.items()
    if function == "Ref":
        return known[text]
    return re.sub(r"\$\{([\w:]+)\}", lambda found: known[found[1]], text)
