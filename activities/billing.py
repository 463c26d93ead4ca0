"""Billing: turns a month's usage into one invoice."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel
from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert

from activities.limits import LARGE
from activities.months import Month, past_month
from saas.database import audit
from saas.database.prices import CANCELLED, CURRENCY, OPERATED
from saas.database.tables import Invoice, InvoiceLine
from saas.refusals import Refused
from temporal_tenancy import current_tenant_record, heartbeating, tenant_activity, tenant_session


class UsageNotBillable(Refused):
    """The usage of a period cannot be billed as it is."""


class IssueInvoice(BaseModel):
    """Input of `issue_invoice`: the month to bill."""

    period: Month


class InvoiceSummary(BaseModel):
    """A summary of an invoice. Amounts are in hundredths of the currency's unit."""

    period: str
    usage_events: int
    total_cents: int
    currency: str
    issued: bool  # False: the invoice existed before


_METER: Final = text("""
    select count(*) as events,
           count(*) filter (where cancelled) as cancelled,
           count(*) filter (where distance < 0) as broken
      from usage_events
     where tenant_id = :tenant_id
       and time_hour >= :since
       and time_hour < :until
""")


@tenant_activity
@heartbeating()
async def issue_invoice(request: IssueInvoice) -> InvoiceSummary:
    """Meters the month in the tenant's time zone and writes its invoice, once.

    One transaction writes the invoice, whose key is the tenant and the month, one line per rate
    and the entry in the audit log: a killed attempt leaves nothing, and a later run finds an
    existing invoice. Raises `UsageNotBillable` if an event of the month cannot be a real flight.
    """
    tenant = current_tenant_record()
    since, until = past_month(request.period, tenant.time_zone)
    async with tenant_session(limits=LARGE) as session:
        month = {"tenant_id": tenant.id, "since": since, "until": until}
        usage = (await session.execute(_METER, month)).mappings().one()
        if usage["broken"]:
            # No noun beside the number: failures of one kind differ in their numbers alone.
            raise UsageNotBillable(
                f"usage events of {tenant.id} in {request.period} with a negative distance: "
                f"{usage['broken']}. Correct or delete them, and run the tick again."
            )
        quantities = {
            OPERATED: usage["events"] - usage["cancelled"],
            CANCELLED: usage["cancelled"],
        }
        lines = [
            {
                "period": request.period,
                "rate": rate.name,
                "quantity": quantity,
                "unit_price_micros": rate.unit_price_micros,
                "amount_cents": rate.amount_cents(quantity),
            }
            for rate, quantity in quantities.items()
        ]
        issued = await session.execute(
            insert(Invoice)
            .values(
                period=request.period,
                currency=CURRENCY,
                total_cents=sum(line["amount_cents"] for line in lines),
                usage_events=usage["events"],
                period_start=since,
                period_end=until,
            )
            .on_conflict_do_nothing()
            .returning(Invoice.period)
        )
        is_new = issued.scalar() is not None
        if is_new:
            await session.execute(insert(InvoiceLine), lines)
        invoice = (
            await session.scalars(select(Invoice).where(Invoice.period == request.period))
        ).one()
        if is_new:
            await audit.record(
                session,
                "invoice.issued",
                invoice.period,
                total_cents=invoice.total_cents,
                currency=invoice.currency,
            )
        return InvoiceSummary(
            period=invoice.period,
            usage_events=invoice.usage_events,
            total_cents=invoice.total_cents,
            currency=invoice.currency,
            issued=is_new,
        )
