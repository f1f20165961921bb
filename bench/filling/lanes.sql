-- Orgs, accounts and endpoints. The org that is measured has the first accounts and ten endpoints; each other has at most a
-- hundred accounts and 990 endpoints.
insert into orgs (org_id, name)
select 'org_' || n, 'Org ' || n from generate_series(1, 2 + greatest(%(accounts)s / 100, %(lanes)s / 990)) as n;

insert into lanes (id, org_id, kind, queue)
select 'acc_' || n, case when n <= %(own)s then 'org_default' else 'org_' || 1 + n / 100 end, 'account', 'account'
from generate_series(1, %(accounts)s) as n;

insert into accounts (id, org_id, name, transport, created_at)
select id, org_id, id, 'sandbox', now() - interval '90 days' from lanes where kind = 'account';

insert into lanes (id, org_id, kind, queue)
select 'whe_' || n, case when n <= 10 then 'org_default' else 'org_' || 1 + n / 990 end, 'endpoint', 'endpoint'
from generate_series(1, %(lanes)s - %(accounts)s) as n;

insert into endpoints (id, org_id, url, events, secret)
select id, org_id, 'https://example.org/', '{none}', '' from lanes where kind = 'endpoint';

analyze lanes, accounts, endpoints
