"""The contract as documents, generated from the code: JSON Schemas and one AsyncAPI 3 document.

`python -m schemas.documents` writes them to `schemas/generated/`; with `--check` it writes nothing and exits
1 where one is missing, stale or too many.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from schemas.dead_letters import DeadLetterReason
from schemas.decode import MAX_NAME
from schemas.events import EVENT_DATA, EventType
from schemas.outcome_data import OUTCOME_DATA, OutcomeEnvelope
from schemas.outcomes import SCHEMA_URN, OutcomeType, Stream, stream_of
from schemas.timestamps import PATTERN as TIMESTAMP_PATTERN

GENERATED: Final = Path(__file__).parent / "generated"
"""Where the documents stand."""

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_MEDIA_TYPE: Final = "application/cloudevents+json"
_TOPICS: Final[Mapping[Stream, str]] = {
    Stream.PROVISIONING: "provisioning.outcomes",
    Stream.CREDITS: "credits.outcomes",
    Stream.DEAD_LETTER: "quartermaster.dead-letters",
}


class _EventSchema(GenerateJsonSchema):
    """Says of every field only what its name does not."""

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if schema.get("default", ...) is None:
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)


class _OutcomeSchema(_EventSchema):
    """Fields of outcomes that may be missing are never null."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        inner = schema["schema"]
        if schema.get("default", ...) is None and inner["type"] == "nullable":
            return self.generate_inner(inner["schema"])
        return super().default_schema(schema)


def data_schema(type: EventType | OutcomeType) -> dict[str, Any]:  # noqa: A002 - the attribute's name
    """Give the JSON Schema of an event's or outcome's `data`."""
    if isinstance(type, EventType):
        schema = _inlined(EVENT_DATA[type], _EventSchema)
    else:
        schema = _inlined(OUTCOME_DATA[type], _OutcomeSchema)
    return {"$schema": _DIALECT, "$id": SCHEMA_URN + type.value, **schema, "title": type.value}


def event_envelope() -> dict[str, Any]:
    """Give the JSON Schema of an inbound event in structured mode, less its data."""
    name = {"type": "string", "minLength": 1, "maxLength": MAX_NAME}
    carried = {"description": "Carried on to the outcomes."}
    return {
        "type": "object",
        "title": "Inbound event",
        "description": "A CloudEvent 1.0; the binary mode of the Kafka binding is read as well.",
        "required": ["specversion", "id", "source", "type", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {**name, "description": "With `source` the event's identity, remembered for good."},
            "source": name,
            "type": {"type": "string"},
            "time": {
                "type": ["string", "null"],
                "format": "date-time",
                "pattern": TIMESTAMP_PATTERN,
                "description": "RFC 3339; where it is missing, the record's timestamp stands in.",
            },
            "traceparent": carried,
            "tracestate": carried,
            "correlationid": carried,
            "data_base64": {"type": "null", "description": "Binary data is not accepted."},
            "data": {"type": "object"},
        },
    }


def outcome_envelope() -> dict[str, Any]:
    """Give the JSON Schema of an outcome, less its data."""
    schema = _inlined(OutcomeEnvelope, _OutcomeSchema)
    schema["properties"]["data"] = {"type": "object"}
    return {**schema, "required": [*schema["required"], "data"], "title": "Outcome"}


def message_schema(type: EventType | OutcomeType) -> dict[str, Any]:  # noqa: A002
    """Give the JSON Schema of a whole event in structured mode."""
    envelope = event_envelope() if isinstance(type, EventType) else outcome_envelope()
    data = {name: value for name, value in data_schema(type).items() if not name.startswith("$")}
    properties: dict[str, Any] = {**envelope["properties"], "type": {"const": type.value}, "data": data}
    if isinstance(type, OutcomeType):
        properties["dataschema"] = {"const": SCHEMA_URN + type.value}
    return {**envelope, "title": type.value, "properties": properties}


def asyncapi() -> dict[str, Any]:
    """Give the AsyncAPI document: every topic under its default name, and what it carries."""
    inbound = {type_.value: [type_.value] for type_ in EventType}
    outbound = {
        topic: [type_.value for type_ in OutcomeType if stream_of(type_) is stream]
        for stream, topic in _TOPICS.items()
    }
    outbound[_TOPICS[Stream.DEAD_LETTER]] = ["dead_letter"]
    messages = {type_.value: _message(type_) for type_ in (*EventType, *OutcomeType)}
    messages["dead_letter"] = _dead_letter()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Quartermaster",
            "version": "1.0.0",
            "description": (
                "Provisions LiteLLM and keeps a credit ledger from Kafka events. The topics' names are "
                "settings; what an event is, its `type` says, never the topic it came on."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": _MEDIA_TYPE,
        "channels": {topic: _channel(topic, types) for topic, types in {**inbound, **outbound}.items()},
        "operations": {
            **{f"receive.{topic}": _operation("receive", topic, types) for topic, types in inbound.items()},
            **{f"send.{topic}": _operation("send", topic, types) for topic, types in outbound.items()},
        },
        "components": {"messages": messages},
    }


def documents() -> dict[str, bytes]:
    """Give every document by its file's name."""
    named: dict[str, dict[str, Any]] = {
        f"{type_.value}.schema.json": data_schema(type_) for type_ in (*EventType, *OutcomeType)
    }
    named["event-envelope.schema.json"] = {"$schema": _DIALECT, **event_envelope()}
    named["outcome-envelope.schema.json"] = {"$schema": _DIALECT, **outcome_envelope()}
    named["asyncapi.json"] = asyncapi()
    return {name: json.dumps(document, indent=2).encode() + b"\n" for name, document in named.items()}


def differences(folder: Path = GENERATED) -> list[str]:
    """Name the files in the folder that are not what the code says."""
    wanted = documents()
    there = {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}
    return sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))


def write(folder: Path = GENERATED) -> None:
    """Write every document, and remove what is none of them."""
    folder.mkdir(exist_ok=True)
    wanted = documents()
    for path in folder.iterdir():
        if path.name not in wanted:
            path.unlink()
    for name, content in wanted.items():
        (folder / name).write_bytes(content)


def main(arguments: list[str]) -> int:
    """Write the documents, or with `--check` say which are stale."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write("usage: python -m schemas.documents [--check]\n")
        return 2
    if not arguments:
        write()
        return 0
    stale = differences()
    for name in stale:
        sys.stderr.write(f"{GENERATED / name} is not what the code says: run python -m schemas.documents\n")
    return 1 if stale else 0


def _channel(topic: str, types: list[str]) -> dict[str, Any]:
    return {
        "address": topic,
        "messages": {type_: {"$ref": f"#/components/messages/{type_}"} for type_ in types},
    }


def _operation(action: str, topic: str, types: list[str]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{topic}"},
        "messages": [{"$ref": f"#/channels/{topic}/messages/{type_}"} for type_ in types],
    }


def _message(type_: EventType | OutcomeType) -> dict[str, Any]:
    return {
        "name": type_.value,
        "contentType": _MEDIA_TYPE,
        "payload": message_schema(type_),
        "bindings": {"kafka": {"key": {"type": "string", "description": "The `org_id`."}}},
    }


def _dead_letter() -> dict[str, Any]:
    text = {"type": "string"}
    timestamp = {"type": "string", "format": "date-time"}
    return {
        "name": "dead_letter",
        "summary": "A record that could not be taken: its original key, value and headers, and ours.",
        "contentType": "application/octet-stream",
        "headers": {
            "type": "object",
            "required": [
                "qm-reason",
                "qm-error",
                "qm-original-topic",
                "qm-original-partition",
                "qm-original-offset",
                "qm-original-timestamp",
                "qm-dead-lettered-at",
            ],
            "properties": {
                "qm-reason": {**text, "examples": [reason.value for reason in DeadLetterReason]},
                "qm-error": {**text, "description": "What is wrong and where, without the payload's values."},
                "qm-event-id": text,
                "qm-event-source": text,
                "qm-event-type": text,
                "qm-original-topic": text,
                "qm-original-partition": {**text, "pattern": "^[0-9]+$"},
                "qm-original-offset": {**text, "pattern": "^[0-9]+$"},
                "qm-original-timestamp": timestamp,
                "qm-dead-lettered-at": timestamp,
                "qm-value-omitted": {"const": "true", "description": "The topic could not take the value."},
                "qm-headers-omitted": {
                    "const": "true",
                    "description": "Nor the record's own headers, or its key.",
                },
            },
        },
        "payload": {"description": "The original bytes, whatever they are; null where omitted."},
    }


def _inlined(model: type[BaseModel], generator: type[GenerateJsonSchema]) -> dict[str, Any]:
    """Give a model's schema with every reference resolved, so that it can stand within any document."""
    schema = model.model_json_schema(schema_generator=generator)
    definitions = schema.pop("$defs", {})

    def resolved(value: Any) -> Any:
        if isinstance(value, list):
            return [resolved(item) for item in value]
        if not isinstance(value, dict):
            return value
        if isinstance(reference := value.get("$ref"), str):
            siblings = {name: member for name, member in value.items() if name != "$ref"}
            return resolved({**definitions[reference.removeprefix("#/$defs/")], **siblings})
        return {name: resolved(member) for name, member in value.items()}

    inlined: dict[str, Any] = resolved(schema)
    return inlined


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
