-- One org, whose name is $x: an account with a job of each kind, an endpoint with deliveries, and what else there is.
insert into orgs (org_id, name, opt_out_reply) values ('org_$x', '$x', 'Bye from $x');
insert into api_keys (id, org_id, name, key_hash) values ('key_$x', 'org_$x', '$x', sha256('key of $x'));
insert into lanes (id, org_id, kind, queue, open_at, gate_reason) values
    ('acc_$x', 'org_$x', 'account', 'account', now() + interval '1 hour', 'pace_minute'),
    ('whe_$x', 'org_$x', 'endpoint', 'endpoint', '-infinity', null);
insert into accounts (id, org_id, name, transport, wanted, state, qr, qr_expires_at, pairing_phone)
values ('acc_$x', 'org_$x', '$x', 'sandbox', 'connected', 'qr_pending', 'qr of $x', now() + interval '1 hour',
        '15550000001');
insert into profiles (account_id, org_id, generation, whole, sealed, raw_bytes, worker, kept_since)
values ('acc_$x', 'org_$x', 1, true, 'sealed of $x', 1, 'wrk_1', now());
insert into account_changes (org_id, account_id, from_state, to_state)
values ('org_$x', 'acc_$x', 'starting', 'qr_pending');
insert into jobs (id, org_id, account_id, key, content_hash, phone, message, state, due_at, send_at, expires_at,
                  ended_at, error_code, sent_at)
values ('job_$x', 'org_$x', 'acc_$x', 'key of $x', sha256('$x'), '15551230001', 'Hi from $x', 'queued', now(), now(), now() + interval '1 day',
        null, null, null),
       ('job_$x_equal', 'org_$x', 'acc_$x', null, sha256('equal $x'), '15551230001', 'Hi from $x', 'queued', now(), now(),
        now() + interval '1 day', null, null, null),
       ('job_$x_failed', 'org_$x', 'acc_$x', 'failed of $x', sha256('y'), '15551230001', 'Hi from $x', 'failed', now(), now(),
        now() + interval '1 day', now(), 'page_hung', null);
insert into jobs_history (id, org_id, account_id, key, content_hash, phone, message, state, due_at, send_at, expires_at,
                          ended_at, error_code, seq, priority, attempts, sequence, timeline, created_at)
values ('job_$x_old', 'org_$x', 'acc_$x', 'old of $x', sha256('z'), '15551230001', 'Hi from $x', 'failed', now(), now(),
        now() + interval '1 day', now(), 'page_hung', 0, 0, 0, 0,
        '[{"at":"2026-01-01T00:00:00Z","status":"failed","detail":"page_hung of $x"}]', now());
insert into incoming (id, org_id, account_id, bubble, phone, chat, text)
values ('msg_$x', 'org_$x', 'acc_$x', 'bubble of $x', '15551230001', '$x', 'Hello $x');
insert into report_progress (account_id, org_id, zone, known_since, rolled_until)
values ('acc_$x', 'org_$x', 'UTC', '2026-01-01', '2026-01-02');
insert into report_days (account_id, org_id, began_at, until_at, day, zone, accepted, failed)
values ('acc_$x', 'org_$x', '2026-01-01', '2026-01-02', '2026-01-01', 'UTC', 1, 1);
insert into report_failures (account_id, org_id, began_at, day, zone, error_code, jobs, last_detail)
values ('acc_$x', 'org_$x', '2026-01-01', '2026-01-01', 'UTC', 'page_hung', 1, 'Detail of $x');
insert into report_hours (account_id, org_id, began_at, hour, day, zone, accepted, failed)
values ('acc_$x', 'org_$x', '2026-01-01', '2026-01-01', '2026-01-01', 'UTC', 1, 1);
insert into report_marks (org_id, account_id, accepted_at, old_state, new_state)
values ('org_$x', 'acc_$x', '2026-01-01', 'queued', 'failed');
insert into opt_outs (id, org_id, phone, account_id, reason) values ('opt_$x', 'org_$x', '15559990001', 'acc_$x', 'STOP $x');
insert into endpoints (id, org_id, url, events, secret) values ('whe_$x', 'org_$x', 'https://$x.example/', '{*}', 'secret of $x');
insert into endpoint_secrets (org_id, endpoint_id, secret, expires_at)
values ('org_$x', 'whe_$x', 'old secret of $x', now() + interval '1 hour');
insert into outbox (id, org_id, type, job_id, account_id, body)
values ('evt_$x', 'org_$x', 'JobCompleted', 'job_$x', 'acc_$x', '{"data":{"jobId":"job_$x"}}'),
       ('evt_$x_2', 'org_$x', 'JobRead', 'job_$x', 'acc_$x', '{"data":{"jobId":"job_$x"}}');
insert into deliveries (id, org_id, event_id, event_at, type, endpoint_id, state, ended_at)
values ('dlv_$x', 'org_$x', 'evt_$x', (select created_at from outbox where id = 'evt_$x'), 'JobCompleted', 'whe_$x', 'delivered', now()),
       ('dlv_$x_open', 'org_$x', 'evt_$x_2', (select created_at from outbox where id = 'evt_$x_2'), 'JobRead', 'whe_$x', 'pending', null);
insert into attempts (org_id, delivery_id, endpoint_id, number, response) values ('org_$x', 'dlv_$x', 'whe_$x', 1, 'Thanks, $x');
insert into recoveries (id, org_id, endpoint_id, since, until, place_at, state, ended_at)
values ('rec_$x', 'org_$x', 'whe_$x', now() - interval '1 day', now(), now(), 'done', now());
insert into qr_tokens (token_hash, org_id, account_id, expires_at) values (sha256('token of $x'), 'org_$x', 'acc_$x', now() + interval '1 day');
insert into checkups (account_id, org_id) values ('acc_$x', 'org_$x');
insert into request_signatures (signature, org_id) values ('signature of $x', 'org_$x');
