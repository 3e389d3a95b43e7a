-- Roles for a database that you name, so that the service needs neither a superuser nor
-- the schema public. Run it once in that database, before the service's first start, as
-- a superuser; again changes nothing, but for what has come to lack a grant.
--
--     psql -d lab -f scripts/roles.sql
--     psql -d lab -c '\password features_service'
--
--   features_owner    owns what the service makes; nobody logs in as it
--   features_service  the service logs in as it, and acts as features_owner
--   features_reader   may read what features_owner has made, and write nothing; the
--                     service becomes it to answer requests. Grant it to people too.
--
-- Roles are the whole server's; what they may do is granted in this database alone.

do $$
declare
    made text;
begin
    if to_regrole('features_owner') is null then
        create role features_owner nologin;
    end if;
    if to_regrole('features_reader') is null then
        create role features_reader nologin;
    end if;
    if to_regrole('features_service') is null then
        create role features_service login;
    end if;

    grant features_owner to features_service;
    -- It becomes the reader, and has nothing of it before.
    grant features_reader to features_service with inherit false, set true;

    execute format(
        'grant connect, create, temporary on database %I to features_owner',
        current_database()
    );
    execute format('grant connect on database %I to features_reader', current_database());
    execute format(
        'alter role features_service in database %I set role to features_owner',
        current_database()
    );
    grant usage, create on schema public to features_owner;
    grant usage on schema public to features_reader;

    -- What it makes from now on, and what it has made.
    alter default privileges for role features_owner
    grant select on tables to features_reader;
    alter default privileges for role features_owner
    grant usage on schemas to features_reader;
    for made in
        select format('schema %I', nspname)
        from pg_namespace
        where nspowner = to_regrole('features_owner')
    loop
        execute format('grant usage on %s to features_reader', made);
    end loop;
    for made in
        select oid::regclass
        from pg_class
        where relowner = to_regrole('features_owner') and relkind in ('r', 'p', 'v', 'm')
    loop
        execute format('grant select on %s to features_reader', made);
    end loop;
end;
$$;
