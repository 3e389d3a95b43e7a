-- What the Postgres of docker-compose.yml runs once, after roles.sql: the service logs
-- in with the name and the password of its environment, and the superuser from inside
-- its container alone, since it has no password any more.
\getenv login DB_USER
\getenv password POSTGRES_PASSWORD

-- psql's \gexec executes each column that is not null, and ends the statement.
-- noqa: disable=CV06
select
    format('alter role features_service password %L', :'password') as sets_password,
    case
        when :'login' <> 'features_service'
            then format('alter role features_service rename to %I', :'login')
    end as renames,
    'alter role current_user password null' as removes_password
\gexec
