"""The crowd of endpoints that are new, fail or hang: no org's share of it delays another's."""

from fixtures_lanes import until, value
from fixtures_webhooks import put_org

from bench.outbox import Outbox, delivering, receiving
from sql.database import Database

CROWD = 500
ASKED = "select count(*) from attempts where org_id = 'org_default'"


async def test_hundreds_of_endpoints_of_one_org_that_hang_leave_anothers_first_delivery_alone(
    database: Database, database_url: str
) -> None:
    await put_org(database, "org_other")
    outbox = Outbox(database)
    async with delivering(database, database_url), receiving() as hook, receiving(hangs=True) as hung:
        crowd = await outbox.add_endpoints(hung, CROWD)
        new = await outbox.add_endpoints(hook, 1, "org_other")
        await outbox.add_events(crowd, 1)
        await outbox.add_events(new, 1, "org_other")
        await until(database, "select count(*) from attempts where status = 204", 1)
        assert await value(database, ASKED) < CROWD // 5, "it did not wait for the others' turns"
        await until(database, ASKED, CROWD)
