from fixtures_api import client_of, rows, running
from psycopg.errors import DeadlockDetected
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api.http.models import Model
from api.http.transactional import Call, retried_transaction
from sql.database import Database, Transaction


class Wanted(Model):
    name: str


async def test_work_that_collided_is_done_again_and_nothing_of_the_first_time_stays(
    database: Database, database_url: str
) -> None:
    tries: list[str] = []

    @retried_transaction(Wanted)
    async def rename(tx: Transaction, call: Call[Wanted]) -> Response:
        """Let the org confirm."""
        tries.append(call.path["id"])
        await tx.connection.execute("update orgs set opt_out_reply = concat(opt_out_reply, %s::text)", [call.body.name])
        if len(tries) == 1:
            raise DeadlockDetected
        return JSONResponse({"org": call.caller.org})

    assert (rename.__name__, rename.__doc__) == ("rename", "Let the org confirm.")
    async with (
        running(database_url, [Route("/rename/{id}", rename, methods=["POST"])]) as app,
        client_of(app) as client,
    ):
        answer = await client.post("/rename/x", json={"name": "Shop"})
        assert (answer.status_code, answer.json()) == (200, {"org": "org_default"})
        assert tries == ["x", "x"]
        assert await rows(database, "select opt_out_reply from orgs") == [("Shop",)]
        refused = [
            await client.post("/rename/x", json={"name": "Shop"}, headers={"x-api-key": "no"}),
            await client.post("/rename/x", json={}),
        ]
        assert [answer.status_code for answer in refused] == [401, 422]
        assert len(tries) == 2, "nobody's work begins who may not call, or says too little"
