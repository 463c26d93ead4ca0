"""Task tokens: which workflow one belongs to, as the server wrote it."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError


def _task_message() -> type[Any]:
    """Those fields of the server's own `temporal.server.api.token.v1.Task` that matter here.

    A real message, and not a reader of bytes: where a field comes twice, both take the last.
    """
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="temporal_tenancy/task_token.proto", package="temporal_tenancy", syntax="proto3"
    )
    message = file.message_type.add(name="TaskToken")
    for name, number, kind in (
        ("workflow_id", 2, field.TYPE_STRING),
        ("component_ref", 14, field.TYPE_BYTES),
    ):
        message.field.add(name=name, number=number, type=kind, label=field.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    descriptor = pool.FindMessageTypeByName("temporal_tenancy.TaskToken")
    return message_factory.GetMessageClass(descriptor)


_TaskToken: Final = _task_message()


def workflow_of(token: bytes) -> str | None:
    """The id of the workflow that a task token belongs to; None where there is none to be read.

    A token that refers to a component is a standalone activity's: the server does not look at its
    workflow id.
    """
    try:
        task = _TaskToken.FromString(token)
    except DecodeError:
        return None
    return None if task.component_ref else task.workflow_id or None
