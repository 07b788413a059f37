"""Takes the server's limits and labels; gives its description for programs (OpenAPI) and for people (HTML)."""

import html as markup
import json
from collections.abc import Sequence
from typing import Any, Final

from speech_emotion.config.serving import ServeSettings
from speech_emotion.inference.response import COLUMN

_REFUSAL: Final = {"$ref": "#/components/schemas/Refusal"}
_LABEL: Final = {"type": "string"}
_SHARE: Final = {"type": "number", "minimum": 0, "maximum": 1}


def openapi(version: str, labels: Sequence[str], settings: ServeSettings) -> dict[str, Any]:
    """Return the server's description in OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "speech-emotion",
            "version": version,
            "description": "Which emotion is heard in a voice. MLflow's scoring contract.",
        },
        "paths": {
            "/invocations": {"post": _invocations(settings)},
            "/ping": _get("Whether it answers; /health is the same.", "application/json"),
            "/health": _get("Whether it answers; /ping is the same.", "application/json"),
            "/version": _get("The version of this software.", "text/plain"),
            "/metrics": _get("Figures for Prometheus.", "text/plain"),
            "/openapi.json": _get("This description.", "application/json"),
            "/docs": _get("This description as a page.", "text/html"),
        },
        "components": {"schemas": _schemas(labels, settings)},
    }


def html(description: dict[str, Any]) -> str:
    """Return the description as a page without scripts; nothing in it is loaded from anywhere."""
    post = description["paths"]["/invocations"]["post"]
    answers = "".join(
        f"<tr><td>{status}</td><td>{markup.escape(one['description'])}</td></tr>"
        for status, one in post["responses"].items()
    )
    others = "".join(
        f"<tr><td><a href='{path}'>GET {path}</a></td><td>{markup.escape(one['get']['summary'])}</td></tr>"
        for path, one in description["paths"].items()
        if "get" in one
    )
    schemas = markup.escape(json.dumps(description["components"]["schemas"], indent=2))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>speech-emotion</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #1a1a1a; background: #fff }}
pre {{ background: #f4f4f4; padding: 1rem; overflow-x: auto }} td {{ padding: .2rem 1rem .2rem 0; vertical-align: top }}
</style></head><body>
<h1>speech-emotion {markup.escape(description["info"]["version"])}</h1>
<p>{markup.escape(description["info"]["description"])} For programs: <a href="/openapi.json">/openapi.json</a>.</p>
<h2>POST /invocations</h2>
<p>{markup.escape(post["description"])}</p>
<pre>curl HOST/invocations -H 'Content-Type: application/json' --data @- &lt;&lt;END
{{"dataframe_records": [{{"{COLUMN}": "$(base64 &lt; clip.wav | tr -d '\\n')"}}]}}
END</pre>
<table>{answers}</table>
<h2>Others</h2>
<table>{others}</table>
<h2>Forms</h2>
<pre>{schemas}</pre>
</body></html>
"""


def _invocations(settings: ServeSettings) -> dict[str, Any]:
    refusals = {
        "400": "A recording or the request cannot be used; the message says which and why.",
        "408": f"The request did not arrive within {settings.receive_seconds:g} s.",
        "413": f"The request is larger than {settings.body_mb:g} MiB.",
        "415": "The Content-Type is not application/json.",
        "503": "As much is being answered as the server takes at once; Retry-After says when to come again.",
        "504": f"The answer took longer than {settings.answer_seconds:g} s.",
    }
    return {
        "summary": "Answer recordings.",
        "operationId": "invocations",
        "description": (
            f"One to {settings.recordings} recordings as base64 text, in any container and at any sample rate. All are "
            "answered, in their order, or the request is refused."
        ),
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Request"}}},
        },
        "responses": {
            "200": {
                "description": "An answer for each recording.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Response"}}},
            },
            **{
                status: {"description": text, "content": {"application/json": {"schema": _REFUSAL}}}
                for status, text in refusals.items()
            },
        },
    }


def _get(summary: str, content_type: str) -> dict[str, Any]:
    answer = {"description": summary, "content": {content_type: {}}}
    return {"get": {"summary": summary, "responses": {"200": answer}}}


def _schemas(labels: Sequence[str], settings: ServeSettings) -> dict[str, Any]:
    audio = {"type": "string", "description": "base64 of a file; a data URL is taken too", "contentEncoding": "base64"}
    counted = {"minItems": 1, "maxItems": settings.recordings}
    records = {"type": "array", "items": _object({COLUMN: audio}), **counted}
    split = _object(
        {
            "columns": {"const": [COLUMN]},
            "data": {
                "type": "array",
                "items": {"type": "array", "items": audio, "minItems": 1, "maxItems": 1},
                **counted,
            },
            "index": {"description": "Not looked at."},
        },
        optional=("index",),
    )
    column = _object({COLUMN: {"anyOf": [audio, {"type": "array", "items": audio, **counted}]}})
    forms = {
        "dataframe_records": records,
        "dataframe_split": split,
        "inputs": {"anyOf": [column, records]},
        "instances": records,
    }
    params = {"type": ["object", "null"], "description": "There are none; what stands here is not looked at."}
    heard = {
        "label": {**_LABEL, "enum": list(labels)},
        "confidence": {**_SHARE, "description": "The label's probability."},
        "sure": {"type": "boolean", "description": "Whether the confidence reaches the model's threshold."},
        "probabilities": _object(dict.fromkeys(labels, _SHARE)),
    }
    times = {
        "start": {"type": "number", "description": "Seconds."},
        "end": {"type": "number", "description": "Seconds."},
    }
    windows = {
        "type": "array",
        "items": _object({**times, **heard}),
        "description": "Of a recording that is longer than a window; otherwise none.",
    }
    versions = {name: {"type": "string"} for name in ("model", "model_version", "package_digest")}
    prediction = _object({**heard, "windows": windows, **versions})
    return {
        "Request": {"oneOf": [_object({name: form, "params": params}, ("params",)) for name, form in forms.items()]},
        "Response": _object({"predictions": {"type": "array", "items": prediction, **counted}}),
        "Refusal": _object({"error_code": {"type": "string"}, "message": {"type": "string"}}),
    }


def _object(properties: dict[str, Any], optional: Sequence[str] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
