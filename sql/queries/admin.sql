-- name: stop_all
select door.stop_all() as since

-- name: start_all
select door.start_all()

-- name: create_org
select door.create_org(%(id)s, %(name)s, %(key)s, %(key_name)s, %(hash)s) as created_at

-- name: list_orgs
select * from door.list_orgs(%(after_at)s, %(after_id)s, %(limit)s)

-- name: create_qr_token
select door.create_qr_token(%(account)s, %(hash)s, %(seconds)s) as account_id

-- name: trade_qr_token
select door.trade_qr_token(%(hash)s, %(visit)s, %(seconds)s) as traded

-- name: qr_token
select * from door.qr_token(%(hash)s)

-- name: qr_visit
select * from door.qr_visit(%(visit)s)
