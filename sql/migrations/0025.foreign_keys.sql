-- The four tables that every message writes to have no foreign keys: for each insert, Postgres locked the row of its parent, and
-- transactions of one account wrote that row anew to share the lock. Each insert takes its org and parent from the parent's row,
-- accounts and endpoints go after their last row, and upkeep looks for rows that lack theirs (broken_references).
-- Oldest code that may run on it: 0.3.0.

alter table jobs drop constraint jobs_account_id_fkey;
alter table outbox drop constraint outbox_org_id_fkey;
alter table deliveries drop constraint deliveries_org_id_fkey, drop constraint deliveries_endpoint_id_fkey;
alter table attempts drop constraint attempts_org_id_fkey;
