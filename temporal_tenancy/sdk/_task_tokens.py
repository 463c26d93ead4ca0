"""Task tokens: the workflow id that the server wrote into one."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError


def _task_message() -> type[Any]:
    """Returns a message type with two fields of the server's `temporal.server.api.token.v1.Task`.

    A real protobuf message reads a token as the server does: of a repeated field it takes the last.
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
    """Returns the id of the workflow that a task token belongs to; None if it names none.

    A token with a component reference belongs to a standalone activity: the server ignores its
    workflow id.
    """
    try:
        task = _TaskToken.FromString(token)
    except DecodeError:
        return None
    return None if task.component_ref else task.workflow_id or None
