-- name: show_org
select org_id as id, name, added_stop_words, ignored_stop_words, opt_out_reply, stopped as paused, created_at
from orgs
where org_id = %(org)s

-- name: org_to_change
select added_stop_words, ignored_stop_words, opt_out_reply from orgs where org_id = %(org)s for no key update

-- name: change_org
update orgs
set added_stop_words = %(added)s, ignored_stop_words = %(ignored)s, opt_out_reply = %(reply)s
where org_id = %(org)s
returning org_id

-- name: pause_org
-- One that is paused already keeps its time.
update orgs set self_paused_at = coalesce(self_paused_at, now()) where org_id = %(org)s returning org_id

-- name: resume_org
update orgs set self_paused_at = null where org_id = %(org)s returning org_id

-- name: find_orgs
-- The org that is named; without one, two at most, since more are as good as two.
select org_id from orgs where %(org)s::text is null or org_id = %(org)s order by created_at, org_id limit 2
