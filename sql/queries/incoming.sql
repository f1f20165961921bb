-- name: recorded_incoming
-- Which of these messages are recorded already, and whether with a number.
select bubble, phone is not null as numbered
from incoming
where account_id = %(account)s and bubble = any (%(bubbles)s::text[])

-- name: record_incoming
-- Insert a message and its event, or nothing when an earlier look has recorded it already. Where the page shows a name
-- and no number, the name is the sender.
with recorded as (
    insert into incoming (id, org_id, account_id, bubble, phone, chat, text, is_answer)
    select %(id)s, org_id, id, %(bubble)s, %(phone)s, %(chat)s, %(text)s, was_sent_to(accounts, %(phone)s)
    from accounts
    where id = %(account)s
    on conflict (account_id, bubble) do nothing
    returning org_id, account_id, phone, chat, text, created_at
)
select record_event(org_id, 'MessageReceived',
    '{"account":' || to_json(account_id) || ',"from":' || to_json(coalesce(phone, chat)) || ',"text":' || to_json(text)
    || ',"receivedAt":"' || iso(created_at) || '"}',
    null, account_id, 0) as lanes
from recorded

-- name: number_incoming
-- The number of a saved contact becomes known when a job opens the chat by that number. Later than an hour after the message,
-- reports may have counted it already.
update incoming
set phone = %(phone)s, is_answer = case when incoming.created_at > now() - interval '1 hour' then was_sent_to(accounts, %(phone)s) end
from accounts
where accounts.id = %(account)s and account_id = accounts.id and bubble = any (%(bubbles)s::text[]) and incoming.phone is null
returning text

-- name: phone_of_chat
-- The phone of the chat that contains one of these messages. On a page that shows only a name, messages that we sent to
-- the chat identify it.
select phone from all_jobs where account_id = %(account)s and bubble = any (%(ids)s::text[])
union all
select phone from incoming where account_id = %(account)s and bubble = any (%(bubbles)s::text[]) and phone is not null
limit 1

-- name: stop_words_of
-- The stop words that the account's org adds to the list, and those of the list that it ignores.
select added_stop_words as add, ignored_stop_words as ignore
from accounts
join orgs using (org_id)
where accounts.id = %(account)s

-- name: lock_opt_outs
-- Two forms of one number are different values to a unique index, so they are serialized by a lock. A statement of its
-- own, so that the next one sees what was committed before.
select pg_advisory_xact_lock(hashtext('postrider.opt_outs'), hashtext(min(form)))
from unnest(phone_forms(%(phone)s)) as form

-- name: opt_out
-- Once per number, however often it is sent and in whichever form the number is written.
insert into opt_outs (id, org_id, phone, account_id, reason)
select %(id)s, org_id, %(phone)s, id, %(reason)s
from accounts
where id = %(account)s
  and not exists (
      select from opt_outs
      where opt_outs.org_id = accounts.org_id and phone = any (phone_forms(%(phone)s)) and lifted_at is null
  )
on conflict (org_id, phone) where lifted_at is null do nothing
returning id

-- name: confirm_opt_out
-- The org's confirmation, where it has one, once for each opt-out: a job like any other, but ahead of the waiting ones
-- and exempt from this opt-out. No order can have its content_hash, so none joins it.
with confirmed as (
    update opt_outs
    set reply_job = %(job)s
    from orgs
    where opt_outs.id = %(id)s and orgs.org_id = opt_outs.org_id and orgs.opt_out_reply is not null
    returning opt_outs.org_id, opt_outs.account_id, orgs.opt_out_reply as message
), queued as (
    insert into jobs (
        id, org_id, account_id, content_hash, phone, message, priority, due_at, send_at, expires_at, timeline
    )
    select %(job)s, accounts.org_id, accounts.id, sha256(convert_to(%(job)s, 'utf8')), %(phone)s, message, 1, now(), now(),
           now() + %(within)s::interval, step('queued', 'confirms an opt-out')
    from confirmed
    join accounts on accounts.id = account_id and accounts.org_id = confirmed.org_id
    returning account_id
)
select array[lanes.id] as lanes from queued join lanes on lanes.id = account_id where open_at <= now()

-- name: opted_out
-- The opt-out's own confirmation is exempt.
select opt_outs.id
from opt_outs
join accounts using (org_id)
where accounts.id = %(account)s and opt_outs.phone = any (phone_forms(%(phone)s)) and lifted_at is null
  and reply_job is distinct from %(job)s
limit 1

-- name: list_incoming
-- Newest first; a page begins after the last row of the one before. Filters and forms of a phone as in list_jobs.
select id, account_id, phone, chat, text, created_at
from (
    (
        select * from incoming
        where org_id = %(org)s
          and (%(phone)s::text is null or phone = %(phone)s)
          and (%(account)s::text is null or account_id = %(account)s)
          and created_at >= %(since)s::timestamptz
          and (created_at, id) < (%(after_at)s::timestamptz, %(after_id)s::text)
        order by created_at desc, id desc
        limit %(limit)s
    )
    union all
    (
        select * from incoming
        where org_id = %(org)s
          and phone = (phone_forms(%(phone)s))[2]
          and (%(account)s::text is null or account_id = %(account)s)
          and created_at >= %(since)s::timestamptz
          and (created_at, id) < (%(after_at)s::timestamptz, %(after_id)s::text)
        order by created_at desc, id desc
        limit %(limit)s
    )
) as found
order by created_at desc, id desc
limit %(limit)s

-- name: list_opt_outs
-- Those in force, newest first; a page begins after the last row of the one before.
select id, phone, account_id, reason, created_at
from opt_outs
where org_id = %(org)s and lifted_at is null
  and (%(phone)s::text is null or phone = any (phone_forms(%(phone)s)))
  and (created_at, id) < (%(after_at)s::timestamptz, %(after_id)s::text)
order by created_at desc, id desc
limit %(limit)s

-- name: add_opt_out
-- An opt-out added by hand; does nothing when the number, in whichever form, is on the list.
insert into opt_outs (id, org_id, phone, reason)
select %(id)s, %(org)s, %(phone)s, %(reason)s
where not exists (
    select from opt_outs where org_id = %(org)s and phone = any (phone_forms(%(phone)s)) and lifted_at is null
)
on conflict (org_id, phone) where lifted_at is null do nothing
returning id, phone, account_id, reason, created_at

-- name: lift_opt_out
update opt_outs set lifted_at = now()
where org_id = %(org)s and phone = any (phone_forms(%(phone)s)) and lifted_at is null
returning id
