-- name: show_org
select org_id as id, added_stop_words, ignored_stop_words, opt_out_reply from orgs where org_id = %(org)s

-- name: org_to_change
select added_stop_words, ignored_stop_words, opt_out_reply from orgs where org_id = %(org)s for no key update

-- name: change_org
update orgs
set added_stop_words = %(added)s, ignored_stop_words = %(ignored)s, opt_out_reply = %(reply)s
where org_id = %(org)s
returning org_id as id, added_stop_words, ignored_stop_words, opt_out_reply
